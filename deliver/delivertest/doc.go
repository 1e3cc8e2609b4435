// Package delivertest has receivers to test deliveries against: one that
// answers as it is told and remembers what came ([Receiver]), a collection of
// those that misbehave ([Hostiles]), and a network in memory ([Network]) on which
// both run under virtual time (testing/synctest), where a timeout costs
// nothing.
//
// Nothing here leaves loopback.
package delivertest
