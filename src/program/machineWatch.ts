/** Notices that the machine was suspended or that its addresses changed. */
import { networkInterfaces } from "node:os"
import type { Clock } from "#processes/clock.ts"

/** Interval of the checks. A change is noticed after this time at the latest. */
const checkIntervalMillis = 1_000

/** The wall clock ahead of the monotonic clock by more than this between two checks means a suspended machine. */
const minSuspendMillis = 3_000

export type MachineChange = "woke" | "addresses-changed"

/** Calls `onChange` until the returned function is called. A changed wall clock can count as a suspended machine. */
export const watchMachine = (
  clock: Clock,
  onChange: (change: MachineChange) => void,
  readAddresses: () => string = addressesOfMachine
): () => void => {
  let monotonic = clock.monotonic()
  let wall = clock.wall()
  let addresses = readAddresses()
  const check = () => {
    const suspendedMillis = clock.wall() - wall - (clock.monotonic() - monotonic)
    monotonic = clock.monotonic()
    wall = clock.wall()
    const previous = addresses
    addresses = readAddresses()
    timer = clock.after(checkIntervalMillis, check)
    if (suspendedMillis > minSuspendMillis) onChange("woke")
    else if (addresses !== previous) onChange("addresses-changed")
  }
  let timer = clock.after(checkIntervalMillis, check)
  return () => timer.cancel()
}

/** Link-local and internal addresses are omitted, because no gateway is reached from them. */
function addressesOfMachine(): string {
  return Object.entries(networkInterfaces())
    .flatMap(([name, addresses = []]) =>
      addresses
        .filter(({ address, internal }) => !internal && !address.startsWith("fe80:"))
        .map(({ address }) => `${name} ${address}`)
    )
    .toSorted()
    .join()
}
