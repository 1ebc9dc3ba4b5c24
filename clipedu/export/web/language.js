// Before anything is painted: the page's language (asked for in the address, chosen before, or the browser's), and
// whether the page was opened without a server, where modules do not load.
{
    const asked = new URLSearchParams(location.search).get("lang")
    let chosen = null
    try {
        chosen = localStorage.getItem("clipedu-language")
    } catch {
        // a browser that keeps nothing
    }
    const known = [asked, chosen, navigator.language.slice(0, 2)].find(name => name === "zh" || name === "en")
    document.documentElement.lang = known ?? "en"
    document.documentElement.classList.toggle("file", location.protocol === "file:")
}
