"""Run notebooks and save them with reproducible outputs: `python -m clipedu.classroom.execute`.

Times, random widget ids and widget states are left out, and printed lines are joined, so that a diff shows only
real changes. Of each widget, the static view saved with it remains.
"""

from __future__ import annotations

import sys
from pathlib import Path

import nbformat
from nbclient import NotebookClient

from clipedu.ground.files import whole_file

WIDGET = "application/vnd.jupyter.widget-view+json"


def execute(path: Path) -> None:
    """Run the notebook from top to bottom in its own folder and save it, unless a cell fails."""
    notebook = nbformat.read(path, as_version=4)
    resources = {"metadata": {"path": str(path.parent)}}
    client = NotebookClient(notebook, timeout=600, record_timing=False, coalesce_streams=True, resources=resources)
    client.execute()
    notebook.metadata = {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)
        if cell.cell_type == "code":
            cell.outputs = [_without_widget(output) for output in cell.outputs]
    with whole_file(path) as temporary:
        nbformat.write(notebook, temporary)


def _without_widget(output: nbformat.NotebookNode) -> nbformat.NotebookNode:
    output.get("data", {}).pop(WIDGET, None)
    return output


if __name__ == "__main__":
    for argument in sys.argv[1:]:
        print(argument, flush=True)
        execute(Path(argument))
