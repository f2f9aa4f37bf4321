"""A sweep as a landscape over T and α: heat maps, slices, contours, and the runs behind a cell."""
