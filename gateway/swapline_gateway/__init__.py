"""The gateway: MQTT to database, exactly once."""
