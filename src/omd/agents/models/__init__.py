"""World models: what predicts the next state and the reward."""
