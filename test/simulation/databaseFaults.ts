/** What is wrong with the database just now. */

export interface DatabaseFaults {
  /** `hung`: it takes requests and answers none. */
  mode: "up" | "down" | "hung"
  /** How often a request fails before it does anything. */
  refuseProbability: number
  /** How often a request is carried out and its answer lost. */
  loseAnswerProbability: number
  /** How often one answer never comes. */
  hangProbability: number
  /** What a request takes, at most, in milliseconds. */
  maxLatency: number
  /** So many notifications to come are lost. */
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
