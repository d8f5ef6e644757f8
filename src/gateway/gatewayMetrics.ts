/** Metrics of the gateway. */
import type { Metric } from "#program/metricsServer.ts"
import { peerMetrics } from "#program/peerMetrics.ts"
import type { Gateway } from "./Gateway.ts"

export const gatewayMetrics = async (gateway: Gateway, openRequests: number): Promise<ReadonlyArray<Metric>> => [
  {
    name: "control_gateway_open_requests",
    type: "gauge",
    help: "HTTP requests that are running now.",
    values: [{ value: openRequests }]
  },
  {
    name: "control_gateway_tunnel_serving",
    type: "gauge",
    help: "1 if the tunnel is served, otherwise 0.",
    values: gateway.statuses().map(({ status, tunnelId }) => ({
      labels: { tunnel: tunnelId },
      value: status === "serving" ? 1 : 0
    }))
  },
  ...peerMetrics("control_gateway", await gateway.readStats())
]
