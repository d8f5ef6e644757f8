/** Connections through a tunnel that fail. */
import type { TunnelSocket } from "#wireguard/Device.ts"
import { Duplex } from "node:stream"

/** A connection that fails with this code before it is established. */
export const connectionErrors = (code: string): TunnelSocket => {
  const socket = new Duplex({ read: () => {} })
  socket.destroy(Object.assign(new Error(code), { code }))
  return Object.assign(socket, { connecting: true }) as unknown as TunnelSocket
}
