/** Runs the gateway: applies views, serves visitors, reports, and drains on a signal. */
import { ClientProgram, type Start } from "#program/clientProgram.ts"
import { peerReports } from "#program/peerReports.ts"
import type { ReportTimer } from "#program/ReportTimer.ts"
import { type GatewayClient, startGateway } from "#sdk/Client.ts"
import type { GatewayView } from "#sdk/view.ts"
import { openDevice } from "#wireguard/openDevice.ts"
import { join } from "node:path"
import { EndpointsFile } from "./EndpointsFile.ts"
import { Gateway } from "./Gateway.ts"
import { gatewayMetrics } from "./gatewayMetrics.ts"
import { openFront } from "./openFront.ts"
import type { GatewayOptionValues } from "./options.ts"
import type { TunnelServing } from "./ServingStatus.ts"

/** Resolves with the exit code. Rejects with a sentence if a public port cannot be opened. */
export const runGateway = async (start: Start<GatewayOptionValues>): Promise<number> => {
  const { log, options, stateDir } = start
  const program = new ClientProgram("gateway", start)
  const { clock } = program
  const keys = await program.ownKeys()
  const endpoints = await EndpointsFile.open(join(stateDir, "endpoints.json"), (problem) => log.warn(problem))
  let view: GatewayView | undefined
  let client: GatewayClient | undefined
  let reports: ReportTimer | undefined
  const gateway = new Gateway({
    clock,
    log,
    privateKey: keys?.privateKey,
    lastEndpoints: endpoints.atStart,
    onStatusChange: () => reports?.changed(),
    openDevice: (settings) =>
      openDevice({
        ...settings,
        kind: options.device,
        prefer: "kernel",
        clock,
        log,
        // A gateway that is killed next finds the agent at its newest endpoint.
        onPeerChange: () => reports?.changed()
      })
  })
  const front = await openFront(options, gateway, clock, log)
  gateway.attach(front)
  const report = async () => {
    const stats = await gateway.readStats()
    client?.reportStatus(gateway.statuses().map(tunnelReport), peerReports(view?.agents.values() ?? [], stats))
    await endpoints.write(stats)
  }
  return await program.run(keys, {
    start: (common) =>
      client = startGateway({
        ...common,
        ...options.publicIp === undefined ? {} : { publicIp: options.publicIp },
        apply: async (next) => {
          view = next
          await gateway.apply(next)
        }
      }),
    report: () => void report().catch(() => {}),
    onMachineChange: () => gateway.renew(),
    metrics: () => gatewayMetrics(gateway, front.openRequests),
    drain: async (isWanted) => {
      const seconds = isWanted ? options.drainTimeout : 0
      if (isWanted) log.info("stopping; running requests may end", { requests: front.openRequests, seconds })
      await front.close(seconds * 1_000)
    },
    close: async () => {
      await endpoints.write(await gateway.readStats())
      await gateway.close()
    }
  }, (timer) => reports = timer)
}

const tunnelReport = ({ detail, status, tunnelId }: TunnelServing) => ({
  id: tunnelId,
  status,
  ...detail === undefined ? {} : { detail }
})
