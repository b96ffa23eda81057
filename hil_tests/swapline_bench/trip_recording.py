"""Recorded trips of an electric car: which of their columns a vehicle controller of ours shows, and as which signal."""

TRIPS = ("TripA05", "TripA07", "TripB03", "TripB17")
# Column of the recording -> signal. Both count current positive into the battery.
TRIP_SIGNALS = {
    "Velocity [km/h]": "speed_kmh",
    "Throttle [%]": "accelerator_pct",
    "Motor Torque [Nm]": "motor_torque_nm",
    "Longitudinal Acceleration [m/s^2]": "acceleration_mps2",
    "Battery Voltage [V]": "traction_voltage_v",
    "Battery Current [A]": "traction_current_a",
    "SoC [%]": "soc_pct",
    "Heating Power CAN [kW]": "heating_power_kw",
    "AirCon Power [kW]": "aircon_power_kw",
    "Ambient Temperature [°C]": "ambient_temperature_c",
    "Cabin Temperature Sensor [°C]": "cabin_temperature_c",
}
