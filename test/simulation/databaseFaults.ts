/** Faults of the simulated database that are active now. */

export interface DatabaseFaults {
  /** `hung`: accepts requests and answers none. */
  mode: "up" | "down" | "hung"
  /** Probability that a request fails before it changes anything. */
  refuseProbability: number
  /** Probability that a request is committed and its response is lost. */
  loseAnswerProbability: number
  /** Probability that a response never arrives. */
  hangProbability: number
  /** Maximum latency of a request in milliseconds. */
  maxLatency: number
  /** Number of next notifications that are lost. */
  notificationsToLose: number
}

export const noDatabaseFaults = (): DatabaseFaults => ({
  mode: "up",
  refuseProbability: 0,
  loseAnswerProbability: 0,
  hangProbability: 0,
  maxLatency: 3,
  notificationsToLose: 0
})

export const clearDatabaseFaults = (faults: DatabaseFaults): void => {
  Object.assign(faults, noDatabaseFaults())
}
