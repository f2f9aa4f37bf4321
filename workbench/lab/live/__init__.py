"""The Lab: training that is watched, steered, taken back and compared, in one panel."""
