"""Drawing: pages, plots and grids."""
