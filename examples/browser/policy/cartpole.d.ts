/** Numbers in the shape of the space, or row after row. */
export type Numbers<T = number> = ArrayLike<T> | readonly Numbers<T>[];

/** Box(4,) float32 in [[-4.8 , -inf, -0.4189, -inf], [4.8 , inf, 0.4189, inf]] */
export type Observation = ArrayLike<number>;

/** Discrete(2) */
export type Action = number;

/** Spaces, names, units, period: the part of `policy.json` that a program needs. */
export interface Spec {
  readonly observation_space: Readonly<Record<string, unknown>>;
  readonly action_space: Readonly<Record<string, unknown>>;
  readonly [key: string]: unknown;
}

export declare class Policy {
  readonly spec: Spec;
  /**
   * The action for a raw observation.
   * @throws TypeError for a wrong type or key.
   * @throws RangeError for a wrong length, for a number that is not finite or not in its range,
   * and if the network overflows.
   */
  act(observation: Observation): Action;
  /** Start an episode: earlier frames, if the policy stacks frames, become zeros. */
  reset(): void;
  /** The largest error over the golden rows, as a part of the action's range. */
  selfTest(): number;
}

/** The global of `cartpole.global.js`. */
export as namespace cartpole;
