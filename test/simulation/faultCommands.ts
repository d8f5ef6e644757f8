/** Faults of the database and of nodes, as commands of a simulation. */
import { acceptedFaults } from "./acceptedFaults.ts"
import type { Command } from "./SimulationState.ts"

// ---- the database

export const failRequestsAtRandom: Command = ({ faultInjector, database, world }, random) => {
  const { faults } = database
  faults.refuseProbability = random.pick([0, 0.1, 0.3]) ?? 0
  faults.loseAnswerProbability = random.pick([0, 0.1, 0.3]) ?? 0
  faults.hangProbability = random.pick([0, 0.05]) ?? 0
  faults.maxLatency = random.pick([3, 50, 800]) ?? 3
  faultInjector.databaseFaultBegins()
  world.after(random.between(200, 6_000), () => {
    faults.refuseProbability = 0
    faults.loseAnswerProbability = 0
    faults.hangProbability = 0
    faults.maxLatency = 3
    faultInjector.databaseFaultEnds()
  })
}

export const stopDatabase: Command = ({ faultInjector, database, world }, random) => {
  if (random.chance(0.7)) database.goDown()
  else database.faults.mode = "hung"
  world.count(`database ${database.faults.mode}`)
  faultInjector.databaseFaultBegins()
  world.after(random.between(50, 9_000), () => {
    database.faults.mode = "up"
    faultInjector.databaseFaultEnds()
  })
}

export const loseNotifications: Command = ({ database }, random) => {
  database.faults.notificationsToLose = random.between(1, 5)
}

export const killListenConnections: Command = ({ database }, random) => database.killListeners(random.chance(0.5))

export const restoreOlderBackup: Command = ({ faultInjector, database, node, world }, random) => {
  world.count("older backup restored")
  database.goDown()
  faultInjector.databaseFaultBegins()
  const isNamed = random.chance(0.5) || acceptedFaults.unnoticedRestore && node === undefined
  database.restore(Math.max(0, database.revision - random.between(1, 8)), isNamed)
  // The restored database may reject requests at first.
  database.faults.refuseProbability = random.pick([0, 0.3]) ?? 0
  world.after(random.between(5, 1_500), () => {
    database.faults.mode = "up"
    world.after(3_000, () => {
      database.faults.refuseProbability = 0
      faultInjector.databaseFaultEnds()
    })
  })
}

export const compactChangeLog: Command = ({ database }, random) =>
  database.compact(database.revision - random.between(0, 10))

// ---- nodes

export const killNode: Command = ({ nodes }, random) => random.pick(nodes)?.kill()

export const restartNode: Command = ({ nodes, world }, random) => {
  const node = random.pick(nodes)
  node?.stop()
  world.after(random.between(100, 4_000), () => node?.start())
}

export const pauseNode: Command = ({ nodes, world }, random) => {
  world.count("node paused")
  random.pick(nodes)?.process.pause(random.pick([50, 1_500, 14_000]) ?? 50, random.pick([0, 0, 1_000, 3_000]) ?? 0)
}

/** Sets the wall clock, which only timestamps for people depend on. */
export const setWallClock: Command = ({ nodes }, random) => {
  for (const { process } of nodes) process.wallClockOffset = random.between(-3, 3) * 3_600_000
}

export const letTimePass: Command = ({ world }, random) => world.advance(random.between(100, 3_000))
