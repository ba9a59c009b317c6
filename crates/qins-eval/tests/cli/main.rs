//! The program `qins`, from its command line.
