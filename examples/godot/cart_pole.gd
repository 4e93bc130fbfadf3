extends Node2D
## CartPole-v1 of Gymnasium: the same equations, one step of 0.02 s for each tick of physics.

const GRAVITY := 9.8
const MASS_CART := 1.0
const MASS_POLE := 0.1
const HALF_LENGTH := 0.5
const FORCE := 10.0
const STEP := 0.02
const PIXELS := 150.0  # for a metre

var position_x := 0.0
var velocity := 0.0
var angle := 0.0
var angular_velocity := 0.0

@onready var controller = $Controller


func _ready() -> void:
	controller.init(self)
	start()


func _physics_process(_delta: float) -> void:
	if controller.needs_reset:
		start()
	simulate(FORCE if controller.push == 1 else -FORCE)
	if absf(position_x) > 2.4 or absf(angle) > deg_to_rad(12.0):
		controller.done = true
		start()
	queue_redraw()


func start() -> void:
	position_x = randf_range(-0.05, 0.05)
	velocity = randf_range(-0.05, 0.05)
	angle = randf_range(-0.05, 0.05)
	angular_velocity = randf_range(-0.05, 0.05)
	controller.reset()


func simulate(force: float) -> void:
	var mass := MASS_CART + MASS_POLE
	var moment := MASS_POLE * HALF_LENGTH
	var push := (force + moment * angular_velocity ** 2 * sin(angle)) / mass
	var inertia := HALF_LENGTH * (4.0 / 3.0 - MASS_POLE * cos(angle) ** 2 / mass)
	var angular_acceleration := (GRAVITY * sin(angle) - cos(angle) * push) / inertia
	var acceleration := push - moment * angular_acceleration * cos(angle) / mass
	position_x += STEP * velocity
	velocity += STEP * acceleration
	angle += STEP * angular_velocity
	angular_velocity += STEP * angular_acceleration


func _draw() -> void:
	var hinge := Vector2(position_x * PIXELS, 0.0)
	draw_rect(Rect2(hinge - Vector2(40.0, 0.0), Vector2(80.0, 40.0)), Color.DIM_GRAY)
	var tip := hinge + Vector2(sin(angle), -cos(angle)) * 2.0 * HALF_LENGTH * PIXELS
	draw_line(hinge, tip, Color.PERU, 12.0)
