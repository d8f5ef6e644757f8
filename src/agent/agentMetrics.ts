/** Metrics of the agent. */
import type { Metric } from "#program/metricsServer.ts"
import { peerMetrics } from "#program/peerMetrics.ts"
import type { Agent } from "./Agent.ts"

export const agentMetrics = async (agent: Agent): Promise<ReadonlyArray<Metric>> => [
  {
    name: "control_agent_connections",
    type: "gauge",
    help: "Connections through the tunnels that are open now.",
    values: [{ value: agent.connections }]
  },
  {
    name: "control_agent_connections_refused_total",
    type: "counter",
    help: "Connections refused because of --max-connections.",
    values: [{ value: agent.refusedConnections }]
  },
  {
    name: "control_agent_tunnel_active",
    type: "gauge",
    help: "1 if the target of the tunnel can be reached, otherwise 0.",
    values: agent.states().map(({ domain, id, status }) => ({
      labels: { tunnel: id, domain },
      value: status === "active" ? 1 : 0
    }))
  },
  ...peerMetrics("control_agent", await agent.device?.stats() ?? [])
]
