"""The control plane: asyncio in both faces. It does the core's effects and reports what the world says."""
