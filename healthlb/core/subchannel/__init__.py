"""One subchannel: its connection, its health, and the state that pickers see."""
