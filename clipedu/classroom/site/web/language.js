// The first page's language, before anything is painted: asked for in the address, chosen before, or the browser's.
{
  const asked = new URLSearchParams(location.search).get("lang")
  let chosen = null
  try {
    chosen = localStorage.getItem("clipedu-language")
  } catch {
    // a browser that keeps nothing
  }
  const known = [asked, chosen, navigator.language.slice(0, 2)].find((name) => name === "zh" || name === "en")
  document.documentElement.lang = known ?? "en"
}
