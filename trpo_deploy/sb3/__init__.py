"""All that knows Stable-Baselines3's formats. Pickles are read here, and only as inert data."""
