/** Opens the device that an operator or the machine asks for. */
import type { Clock } from "#processes/clock.ts"
import type { Device } from "./Device.ts"
import type { WireGuardEvent } from "./noise/WireGuard.ts"
import { openKernelDevice } from "./kernel/KernelDevice.ts"
import { kernelProblem } from "./kernel/KernelInterface.ts"
import { openUserspaceDevice } from "./userspace/UserspaceDevice.ts"

export interface OpenDeviceOptions {
  readonly kind: "auto" | "userspace" | "kernel"
  /** Adapter that `auto` uses if the machine has it. */
  readonly prefer: "userspace" | "kernel"
  /** WireGuard private key in base64. */
  readonly privateKey: string
  readonly listenPort: number
  readonly mtu: number
  readonly clock: Clock
  /** A peer has another endpoint, or a new session with it has begun. The kernel does not report this. */
  readonly onPeerChange?: () => void
  readonly log: { readonly info: (message: string) => void; readonly warn: (message: string) => void }
}

/** Rejects with a sentence if the device cannot be opened. With `auto`, a missing kernel device is replaced by the userspace one. */
export const openDevice = async (options: OpenDeviceOptions): Promise<Device> => {
  const { clock, kind, listenPort, log, mtu, onPeerChange, prefer, privateKey } = options
  if (kind === "kernel" || kind === "auto" && prefer === "kernel") {
    const kernel = { privateKey, listenPort, mtu, clock, warn: log.warn }
    const problem = await kernelProblem()
    if (kind === "kernel") {
      if (problem === undefined) return await openKernelDevice(kernel)
      throw new Error(`the kernel device cannot be used: ${problem}; use --device userspace`)
    }
    // A container can have the tools and no right to make an interface.
    const opened = problem ?? await openKernelDevice(kernel).catch((error: NodeJS.ErrnoException) => {
      // The userspace device would need the same port.
      if (error.code === "EADDRINUSE") throw error
      return error.message
    })
    if (typeof opened !== "string") return opened
    log.info(`using the userspace device, because the kernel device cannot be used: ${opened}`)
  }
  const onEvent = (event: WireGuardEvent) => {
    if (event.type !== "peerSilent") onPeerChange?.()
  }
  return await openUserspaceDevice({ privateKey, listenPort, mtu, clock, onEvent })
}
