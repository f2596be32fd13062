"""Platform plug-ins: what runs a session's command. One file each, entry point ``wes_bridge.platforms``."""
