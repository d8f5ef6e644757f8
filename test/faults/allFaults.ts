/** All forty faults, F1 to F40, in order. */
import { certificates } from "./faults/certificates.ts"
import { clients } from "./faults/clients.ts"
import { database } from "./faults/database.ts"
import { hostile } from "./faults/hostileClients.ts"
import { history } from "./faults/lostHistory.ts"
import { inside } from "./faults/clocksAndDefects.ts"
import { limits } from "./faults/resourceLimits.ts"
import { migrations } from "./faults/migrations.ts"
import { nodes } from "./faults/nodes.ts"
import { notifications } from "./faults/notifications.ts"
import { operators } from "./faults/operatorPortAttacks.ts"
import { security } from "./faults/security.ts"
import { storage } from "./faults/storage.ts"
import type { Fault } from "./FaultRun.ts"

export const allFaults: ReadonlyArray<Fault> = [
  ...certificates,
  ...clients,
  ...database,
  ...history,
  ...hostile,
  ...inside,
  ...limits,
  ...migrations,
  ...nodes,
  ...notifications,
  ...operators,
  ...security,
  ...storage
].toSorted((one, other) => numberOf(one) - numberOf(other))

function numberOf({ id }: Fault): number {
  return Number(id.slice(1))
}
