"""Exchange with the outside: text expressions, files for NumPy and MATLAB."""
