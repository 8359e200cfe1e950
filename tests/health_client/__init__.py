"""The health client and `follow_state`, in both faces, against real servers."""
