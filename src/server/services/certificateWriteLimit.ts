/** Bounds what a gateway can make Control write and send to the other gateways. */
import { KeyedBuckets } from "#rateLimit/KeyedBuckets.ts"
import type { GatewayId, HostName } from "#schema/ids.ts"

/** In bytes: enough for the first certificates of 3,000 tunnels at once, and then for one every 3 s. */
const bytesOfGateway = { burst: 16 * 1_048_576, perSecond: 2_048 }

/** A certificate is renewed after days; a failed attempt is repeated after minutes. */
const writesOfDomain = { burst: 10, perSecond: 1 / 300 }

export interface CertificateWriteLimit {
  /** Spends the bytes and the write; false if the gateway has none left. `at` is in monotonic milliseconds. */
  tryAcquire(gateway: GatewayId, domain: HostName, bytes: number, at: number): boolean
}

/** One limit for each gateway, and one for each of its domains. */
export function makeCertificateWriteLimit(): CertificateWriteLimit {
  const bytesByGateway = new KeyedBuckets(bytesOfGateway)
  const writesByDomain = new KeyedBuckets(writesOfDomain)
  return {
    tryAcquire: (gateway, domain, bytes, at) =>
      writesByDomain.tryAcquire(`${gateway} ${domain}`, at) && bytesByGateway.tryAcquire(gateway, at, bytes)
  }
}
