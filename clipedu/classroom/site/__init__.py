"""The reading site: every notebook as a page in each language, with sliders that move without a kernel."""
