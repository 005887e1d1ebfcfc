"""What an overlay will cost before it is built: synthesis by open tools, activity, energy, fit."""
