/** Opens the public side of a gateway: HTTP, HTTPS, TLS, TCP and UDP for visitors. */
import type { Clock } from "#processes/clock.ts"
import type { Log } from "#program/log.ts"
import { BlockList, isIP } from "node:net"
import { combinedLine, jsonLine } from "./front/http/accessLog.ts"
import { HttpFront } from "./front/http/HttpFront.ts"
import { type FrontCounts, Listeners } from "./front/Listeners.ts"
import type { Front, Gateway } from "./Gateway.ts"
import type { GatewayOptionValues } from "./options.ts"

/** A machine without IPv6 serves IPv4 only. */
const allAddresses = ["0.0.0.0", "::"]

export interface PublicFront extends Front {
  readonly openRequests: number
  readonly counts: FrontCounts
  close(drainMillis: number): Promise<void>
}

/** Rejects with a sentence if a public port cannot be opened. */
export const openFront = async (
  options: GatewayOptionValues,
  gateway: Gateway,
  clock: Clock,
  log: Log
): Promise<PublicFront> => {
  const trustedProxies = containsAddress(options.trustedProxies)
  const http = new HttpFront({
    routes: gateway.routes,
    secureContext: gateway.certificates.secureContext,
    limits: {},
    publicHttpsPort: options.publicHttpsPort,
    trustedProxies,
    accessLog: accessLogOf(options.accessLog),
    clock,
    // The gateway answers challenges as soon as it requests certificates itself.
    acme: () => undefined
  })
  const listeners = new Listeners({
    bind: options.bind.length === 0 ? allAddresses : options.bind,
    httpPort: options.httpPort,
    httpsPort: options.httpsPort,
    routes: gateway.routes,
    httpFront: http,
    udp: { bindUdp: (port, onDatagram) => gateway.bindUdp(port, onDatagram) },
    limits: {},
    clock,
    trustedProxies,
    proxyProtocolIn: options.proxyProtocol,
    onProblem: (problem) => log.warn(problem),
    onPortProblems: (problems) => gateway.setPortProblems(problems)
  })
  await listeners.start()
  log.info("serving visitors", { http: listeners.httpPort, https: listeners.httpsPort })
  return {
    get counts() {
      return listeners.counts
    },
    setTunnelMtu: (mtu) => listeners.setTunnelMtu(mtu),
    get openRequests() {
      return http.openRequests
    },
    setPortRoutes: (routes) => listeners.setPortRoutes(routes),
    retire: (route, drainMillis) => {
      http.retire(route, drainMillis)
      listeners.retire(route, drainMillis)
    },
    close: async (drainMillis) => {
      await Promise.all([listeners.close(drainMillis), http.close(drainMillis)])
    }
  }
}

function containsAddress(networks: GatewayOptionValues["trustedProxies"]): (address: string) => boolean {
  const list = new BlockList()
  for (const { address, family, length } of networks) list.addSubnet(address, length, family)
  return (address) => list.check(address, isIP(address) === 6 ? "ipv6" : "ipv4")
}

function accessLogOf(format: GatewayOptionValues["accessLog"]): (entry: Parameters<typeof jsonLine>[0]) => void {
  if (format === "off") return () => {}
  const text = format === "json" ? jsonLine : combinedLine
  return (entry) => void process.stdout.write(`${text(entry)}\n`)
}
