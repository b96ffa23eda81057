"""Words for enumerations and flag words, as the pages show them."""

STATES: dict[str, dict[str, list[str]]] = {
    "vehicle": {
        "drive_mode": ["Off", "Ready", "Manual", "Autonomous", "Remote", "Swapping", "Fault", "Emergency stop"],
        "gear": ["Park", "Reverse", "Neutral", "Drive"],
        "cargo_lock": ["Open", "Locked", "Jammed"],
    },
    "position": {
        "fix_quality": [
            "No fix",
            "GNSS",
            "Differential",
            "PPS",
            "RTK fixed",
            "RTK float",
            "Dead reckoning",
            "Manual",
            "Simulated",
        ],
        "fix_mode": ["", "No fix", "2D", "3D"],
    },
    "slot": {
        "occupied": ["Empty", "Occupied"],
        "locked": ["Unlocked", "Locked"],
        "charger_state": ["Idle", "Connected", "Charging", "Full", "Fault", "Reserved"],
    },
    "node": {
        "reset_cause": [
            "Unknown",
            "Power-on",
            "Hard reset",
            "Watchdog",
            "Deep sleep",
            "Soft reset",
            "Brown-out",
            "Configuration",
        ],
        "clock_quality": ["None", "Estimated", "Gateway", "NTP", "GNSS"],
        "safe_mode": ["No", "Yes"],
    },
}

FLAGS: dict[str, dict[str, list[str]]] = {
    "vehicle": {"doors": ["Cargo left", "Cargo right", "Cargo rear", "Service"]},
    "module": {
        "switches": ["Charge", "Discharge", "Precharge", "Heater"],
        "protections": [
            "Cell over-voltage",
            "Cell under-voltage",
            "Pack over-voltage",
            "Pack under-voltage",
            "Charge over-temperature",
            "Charge under-temperature",
            "Discharge over-temperature",
            "Discharge under-temperature",
            "Charge over-current",
            "Discharge over-current",
            "Short circuit",
            "Front-end fault",
            "Switches locked by software",
            "Cell spread",
            "MOSFET over-temperature",
            "Insulation",
            "Sensor fault",
        ],
    },
}
