/** Copies bytes both ways between a visitor and a service after an upgrade. */
import type { Duplex } from "node:stream"

export interface JoinedHandlers {
  readonly onForth: (bytes: number) => void
  readonly onBack: (bytes: number) => void
  /** Called once, when one side has closed and the other one was ended. */
  readonly onClose: () => void
}

/** The end of one side ends the other after the bytes on the way. An abort of one side aborts the other. */
export const joinUpgraded = (visitor: Duplex, service: Duplex, { onBack, onClose, onForth }: JoinedHandlers): void => {
  let open = 2
  const copy = (from: Duplex, to: Duplex, count: (bytes: number) => void) => {
    from.on("data", (chunk: Buffer) => {
      count(chunk.length)
      if (!to.writableEnded && !to.write(chunk)) from.pause()
    })
    to.on("drain", () => from.resume())
    from.on("end", () => void to.end())
    from.on("error", ignore)
    from.once("close", () => {
      if (from.readableEnded) to.end()
      else to.destroy()
      open -= 1
      if (open === 0) onClose()
    })
    from.resume()
  }
  copy(visitor, service, onForth)
  copy(service, visitor, onBack)
  if (visitor.destroyed) service.destroy()
  if (service.destroyed) visitor.destroy()
}

/** The `close` event that follows has the consequence. */
const ignore = () => {}
