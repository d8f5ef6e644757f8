/** Removes NotificationResponse messages from a PostgreSQL stream. */
import type { ProxyConnection, ProxyMode } from "./Proxy.ts"

const notificationResponse = 0x41

/**
 * Forwards everything except notifications. Set this mode while the connection is idle, because parsing must start at a
 * message border.
 */
export const dropNotifications = (dropped: () => void): ProxyMode => {
  const rests = new WeakMap<ProxyConnection, Buffer>()
  return {
    kind: "rewrite",
    rewrite: (chunk, link) => {
      let data = Buffer.concat([rests.get(link) ?? Buffer.alloc(0), chunk])
      const kept: Array<Buffer> = []
      while (data.length >= 5) {
        const end = 1 + data.readUInt32BE(1)
        if (data.length < end) break
        if (data[0] === notificationResponse) dropped()
        else kept.push(data.subarray(0, end))
        data = data.subarray(end)
      }
      rests.set(link, data)
      return Buffer.concat(kept)
    }
  }
}
