"""What outlives the process: the database (`database`, `tables`, `migrations`) and the data directory (`data_dir`)."""
