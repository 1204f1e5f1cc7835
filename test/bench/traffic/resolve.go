package traffic

import (
	"fmt"
	"time"

	"github.com/miekg/dns"
)

// Resolve asks the DNS server at address, over UDP, for the IPv4 address of
// name, count times from one socket, and returns how long each answer took.
func Resolve(address, name string, count int) ([]time.Duration, error) {
	client := &dns.Client{Timeout: firstTime}
	conn, err := client.Dial(address)
	if err != nil {
		return nil, fmt.Errorf("reach the DNS server %s: %w", address, err)
	}
	defer conn.Close()
	times := make([]time.Duration, count)
	for i := range times {
		query := new(dns.Msg).SetQuestion(dns.Fqdn(name), dns.TypeA)
		began := time.Now()
		answer, _, err := client.ExchangeWithConn(query, conn)
		if err != nil {
			return nil, fmt.Errorf("ask %s for %s: %w", address, name, err)
		}
		times[i] = time.Since(began)
		if answer.Rcode != dns.RcodeSuccess || len(answer.Answer) == 0 {
			return nil, fmt.Errorf("%s answers %s for %s", address, dns.RcodeToString[answer.Rcode], name)
		}
	}
	return times, nil
}
