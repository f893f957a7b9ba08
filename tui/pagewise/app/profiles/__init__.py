"""The switcher of profiles: their plans, their fields, their quant levels."""
