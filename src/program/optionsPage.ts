/** Renders the pages `docs/agent.md` and `docs/gateway.md`. */
import { type Options, optionsTable } from "./options.ts"

const agentText = `# The agent

\`control agent run\` runs next to your services, behind NAT, as an ordinary user. It needs no root, no TUN device and no open port:
WireGuard, TCP and UDP are part of the program.

\`\`\`console
$ npx control agent create home -o env > home.env      # on the server
$ npx control agent run --env-file home.env            # on the machine at home
\`\`\`

- The agent connects to Control, keeps its view in the state directory, and serves from it while Control is away, also after a
  restart.
- It makes its own WireGuard key in the state directory. The key never leaves the machine.
- It opens the ports of its tunnels inside WireGuard only, and passes each connection to the tunnel's target. \`--allow\` limits the
  addresses that it dials.
- A target that does not answer is reported to Control as \`target-unreachable\`, and tried again until it answers.
- SIGTERM rejects new connections and gives running ones \`--drain-timeout\`. A second signal ends the agent at once.
- Exit codes: 0 stopped by a signal or \`--once\`, 1 failed (the last line of the log has the reason), 2 wrong options.

The command line precedes the env file, and the env file precedes the environment.
`

const gatewayText = `# The gateway

\`control gateway run\` runs on a machine with a public address. It serves visitors on ports 80 and 443 and on the ports of tcp and
udp tunnels, and passes their traffic through WireGuard to the agents.

\`\`\`console
$ npx control gateway create edge --public-ip 203.0.113.7 -o env > edge.env
$ npx control gateway run --env-file edge.env
\`\`\`

An ordinary user can bind ports 80 and 443 where the system allows it (\`sysctl net.ipv4.ip_unprivileged_port_start=80\`, or the
capability \`CAP_NET_BIND_SERVICE\` of a service). Otherwise use \`--http-port\` and \`--https-port\`, and let the router map the public
ports to them. The UDP port of WireGuard is the gateway's \`listenPort\` at Control.

| protocol of the tunnel | chosen by                 | at the gateway                                                          |
| ---------------------- | ------------------------- | ----------------------------------------------------------------------- |
| \`http\`                 | Host header, SNI          | HTTP/1.1, HTTP/2, WebSocket; TLS ends here if Control has a certificate |
| \`tls\`                  | SNI                       | passed through; the gateway sees no plaintext                           |
| \`tcp\`                  | the tunnel's \`listenPort\` | passed through, with a PROXY header if the tunnel has \`proxyProtocol\`   |
| \`udp\`                  | the tunnel's \`listenPort\` | one flow for each visitor; forgotten after 60 s without datagrams       |

- A name with a certificate is redirected from http to https. A name without one is served by http, and gets no TLS handshake.
- Error pages name the broken link: 502 the agent does not answer, 503 the service does not answer, 504 no answer in time, 404 no
  tunnel has the name.
- The gateway probes each tunnel when it changes and every 30 s, and reports to Control which tunnels it serves.
- A change of one tunnel interrupts no other one. Running requests of a removed or moved tunnel may end for 30 s.
- While Control is away, the gateway serves from its state directory, also after a restart.
- SIGTERM stops accepting visitors and gives running requests \`--drain-timeout\`. A second signal ends the gateway at once.

The command line precedes the env file, and the env file precedes the environment.
`

const texts = { agent: agentText, gateway: gatewayText }

/** The Markdown page of a program. */
export const optionsPage = (program: keyof typeof texts, table: Options): string =>
  `${texts[program]}
## Options

${optionsTable(table)}

\`/readyz\` of \`--metrics\` answers 200 after the first view is applied.
`
