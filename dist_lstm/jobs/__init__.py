"""What knows Ray, and the machines a job may run on."""
