"""JupyterLab and Voilà, on this machine and with a token."""
