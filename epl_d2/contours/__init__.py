"""What a contour of a label map is: edges and distances. NumPy and OpenCV alone."""
