/** The row of a change, by entity, id and operation. Pure. */
import type { Change } from "./NetworkState.ts"

/** Named as in operators' events and in the change log; a certificate's id is its domain. */
export function changedRow(change: Change) {
  switch (change._tag) {
    case "AgentPut":
      return { entityType: "agent", entityId: change.agent.id, op: "put" } as const
    case "AgentRemoved":
      return { entityType: "agent", entityId: change.id, op: "delete" } as const
    case "GatewayPut":
      return { entityType: "gateway", entityId: change.gateway.id, op: "put" } as const
    case "GatewayRemoved":
      return { entityType: "gateway", entityId: change.id, op: "delete" } as const
    case "TunnelPut":
      return { entityType: "tunnel", entityId: change.tunnel.id, op: "put" } as const
    case "TunnelRemoved":
      return { entityType: "tunnel", entityId: change.id, op: "delete" } as const
    case "CertificatePut":
      return { entityType: "certificate", entityId: change.certificate.domain, op: "put" } as const
    case "CertificateRemoved":
      return { entityType: "certificate", entityId: change.domain, op: "delete" } as const
    case "KeyPut":
      return { entityType: "key", entityId: change.key.id, op: "put" } as const
    case "KeyRemoved":
      return { entityType: "key", entityId: change.id, op: "delete" } as const
  }
}
