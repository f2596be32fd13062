"""Selection policies: plug-ins that order offers. One file each, entry point ``wes_bridge.policies``."""
