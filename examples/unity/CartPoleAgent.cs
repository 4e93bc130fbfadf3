using Unity.MLAgents;
using Unity.MLAgents.Actuators;
using Unity.MLAgents.Sensors;
using UnityEngine;

/// <summary>
/// CartPole-v1 of Gymnasium as an agent of ML-Agents: the same equations, in steps of 0.02 s.
/// </summary>
public class CartPoleAgent : Agent
{
    const float Gravity = 9.8f;
    const float MassCart = 1.0f;
    const float MassPole = 0.1f;
    const float HalfLength = 0.5f;
    const float Force = 10.0f;
    const float Step = 0.02f;

    /// <summary>The object that moves along x.</summary>
    public Transform cart;

    /// <summary>Its child at the hinge, with the pole above it.</summary>
    public Transform pole;

    float position, velocity, angle, angularVelocity;

    public override void OnEpisodeBegin()
    {
        position = Random.Range(-0.05f, 0.05f);
        velocity = Random.Range(-0.05f, 0.05f);
        angle = Random.Range(-0.05f, 0.05f);
        angularVelocity = Random.Range(-0.05f, 0.05f);
    }

    public override void CollectObservations(VectorSensor sensor)
    {
        sensor.AddObservation(position);
        sensor.AddObservation(velocity);
        sensor.AddObservation(angle);
        sensor.AddObservation(angularVelocity);
    }

    public override void OnActionReceived(ActionBuffers actions)
    {
        Simulate(actions.DiscreteActions[0] == 1 ? Force : -Force);
        cart.localPosition = new Vector3(position, 0f, 0f);
        // A positive angle leans to the right, which is clockwise.
        pole.localRotation = Quaternion.Euler(0f, 0f, -angle * Mathf.Rad2Deg);
        if (Mathf.Abs(position) > 2.4f || Mathf.Abs(angle) > 12f * Mathf.Deg2Rad)
        {
            EndEpisode();
        }
    }

    void Simulate(float force)
    {
        float mass = MassCart + MassPole;
        float moment = MassPole * HalfLength;
        float sin = Mathf.Sin(angle);
        float cos = Mathf.Cos(angle);
        float push = (force + moment * angularVelocity * angularVelocity * sin) / mass;
        float inertia = HalfLength * (4f / 3f - MassPole * cos * cos / mass);
        float angularAcceleration = (Gravity * sin - cos * push) / inertia;
        float acceleration = push - moment * angularAcceleration * cos / mass;
        position += Step * velocity;
        velocity += Step * acceleration;
        angle += Step * angularVelocity;
        angularVelocity += Step * angularAcceleration;
    }
}
