extends AIController2D
## What the policy sees of the cart, and what it does.

var push := 0


func get_obs() -> Dictionary:
	var cart = _player  # cart_pole.gd, which is more than a Node2D
	return {"obs": [cart.position_x, cart.velocity, cart.angle, cart.angular_velocity]}


func get_action_space() -> Dictionary:
	return {"action": {"size": 2, "action_type": "discrete"}}


func set_action(action) -> void:
	push = action["action"]


func get_reward() -> float:
	return 1.0
