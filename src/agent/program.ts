/** Runs the agent: applies views, reports, and drains on a signal. */
import { ClientProgram, type Start } from "#program/clientProgram.ts"
import { peerReports } from "#program/peerReports.ts"
import type { ReportTimer } from "#program/ReportTimer.ts"
import { type AgentClient, startAgent } from "#sdk/Client.ts"
import type { AgentView } from "#sdk/view.ts"
import { openDevice } from "#wireguard/openDevice.ts"
import { Agent, type TunnelState } from "./Agent.ts"
import { agentMetrics } from "./agentMetrics.ts"
import { Dialer } from "./dialTarget.ts"
import type { AgentOptionValues } from "./options.ts"

/** Resolves with the exit code. */
export const runAgent = async (start: Start<AgentOptionValues>): Promise<number> => {
  const { log, options } = start
  const program = new ClientProgram("agent", start)
  const { clock } = program
  const keys = await program.ownKeys()
  let view: AgentView | undefined
  let client: AgentClient | undefined
  let reports: ReportTimer | undefined
  const agent = new Agent({
    clock,
    log,
    dialer: new Dialer(options.allow),
    maxConnections: options.maxConnections,
    privateKey: keys?.privateKey,
    onStatusChange: () => reports?.changed(),
    openDevice: (settings) =>
      openDevice({ ...settings, kind: options.device, prefer: "userspace", listenPort: 0, clock, log })
  })
  const report = async () => {
    const stats = await agent.device?.stats() ?? []
    client?.reportStatus(agent.states().map(tunnelReport), peerReports(view?.gateways.values() ?? [], stats))
  }
  return await program.run(keys, {
    start: (common) =>
      client = startAgent({
        ...common,
        apply: async (next) => {
          view = next
          await agent.apply(next)
        }
      }),
    report: () => void report().catch(() => {}),
    onMachineChange: () => agent.device?.renewHandshakes(),
    metrics: () => agentMetrics(agent),
    drain: async (isWanted) => {
      if (!isWanted) return
      log.info("stopping; running connections may end", {
        connections: agent.connections,
        seconds: options.drainTimeout
      })
      await agent.drain(options.drainTimeout * 1_000)
    },
    close: () => agent.close()
  }, (timer) => reports = timer)
}

const tunnelReport = ({ detail, domain, id, status }: TunnelState) => ({
  id,
  domain,
  status,
  ...detail === undefined ? {} : { detail }
})
