"""What a run leaves: the rows, whose fields are the columns of the CSVs."""
