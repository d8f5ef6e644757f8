/** What is wrong with the database just now. */

export interface Faults {
  /** `hung`: it takes requests and answers none. */
  mode: "up" | "down" | "hung"
  /** How often a request fails before it does anything. */
  refuse: number
  /** How often a request is carried out and its answer lost. */
  loseAnswer: number
  /** How often one answer never comes. */
  hang: number
  /** What a request takes, at most, in milliseconds. */
  slowest: number
  /** So many notifications to come are lost. */
  loseNotifications: number
}

export const makeFaults = (): Faults => ({
  mode: "up",
  refuse: 0,
  loseAnswer: 0,
  hang: 0,
  slowest: 3,
  loseNotifications: 0
})

export const heal = (faults: Faults): void => {
  Object.assign(faults, makeFaults())
}
