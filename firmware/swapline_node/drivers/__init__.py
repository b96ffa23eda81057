"""Device drivers, one file per device; `driver.make` imports the ones that the configuration names."""
