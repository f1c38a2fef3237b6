"""What leaves the program: pictures, files, the run card."""
