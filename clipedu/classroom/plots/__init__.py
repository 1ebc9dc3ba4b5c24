"""The plots of the series. Images are always blue, texts vermillion, and cosines on a fixed scale from -1 to 1.

A label is `"中文 | English"`, or a text that is the same in both languages: a symbol, an identifier, a caption. The
picture holds no words of one language: title, legend and axes are HTML around it, which the language switch hides.
Every function returns a `View` whose `text` describes the plot for readers who cannot see it.
"""

from clipedu.classroom.plots.charts import bars, curves, dots, histogram, loss_curve, temperature_panel
from clipedu.classroom.plots.images import feature_maps, gradient_map, pictures, tokens
from clipedu.classroom.plots.tables import grids, heat_map, on_the_circle, similarity, table, titled

__all__ = [
    "bars",
    "curves",
    "dots",
    "feature_maps",
    "gradient_map",
    "grids",
    "heat_map",
    "histogram",
    "loss_curve",
    "on_the_circle",
    "pictures",
    "similarity",
    "table",
    "temperature_panel",
    "titled",
    "tokens",
]
