output "address" {
  description = "Where people come in: the DNS name of the appliance is an alias of this one."
  value       = aws_lb.this.dns_name
}

output "image_id" {
  description = "The AMI that new appliances are made from."
  value       = local.image_id
}
