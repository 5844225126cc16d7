# The bastion of @PROJECT@ behind your load balancer, for your own Terraform (AWS provider 5 or newer).
#
# Trap 1: the target's availability zone. An address inside the VPC needs none; "all" is for addresses outside, and with it the load
#         balancer refuses an address that is inside.
# Trap 2: the load balancer's egress to the bastion is not inferred, so it stands here by itself. If the group's rules stand inline in
#         its aws_security_group, write it there instead: the two ways undo each other.
# Trap 3: a browser's preflight announces X-Ephemwork in Access-Control-Request-Headers and does not carry it: it needs its own rule.
# Trap 4: your back end's CORS allow list must have X-Ephemwork, or browsers drop the answers of staging itself.

resource "aws_lb_target_group" "ephemwork" {
  vpc_id               = "@VPC@"
  target_type          = "ip"
  protocol             = "HTTP"
  port                 = 80
  deregistration_delay = 30

  health_check {
    path                = "@HEALTH_PATH@"
    interval            = 10
    timeout             = 5
    healthy_threshold   = 2
    unhealthy_threshold = 2
    matcher             = "200"
  }
}

resource "aws_lb_target_group_attachment" "ephemwork" {
  target_group_arn = aws_lb_target_group.ephemwork.arn
  # Without availability_zone: the address is inside the VPC (trap 1).
  target_id = "@ADDRESS@"
  port      = 80
}

resource "aws_lb_listener_rule" "ephemwork_header" {
  listener_arn = "@LISTENER@"
  priority     = @FIRST@

  action {
    type             = "forward"
    target_group_arn = aws_lb_target_group.ephemwork.arn
  }

  condition {
    http_header {
      http_header_name = "@HEADER@"
      values           = ["*"]
    }
  }
}

resource "aws_lb_listener_rule" "ephemwork_preflight" {
  listener_arn = "@LISTENER@"
  priority     = @SECOND@

  action {
    type             = "forward"
    target_group_arn = aws_lb_target_group.ephemwork.arn
  }

  condition {
    http_request_method {
      values = ["OPTIONS"]
    }
  }

  condition {
    http_header {
      http_header_name = "Access-Control-Request-Headers"
      values           = ["*x-ephemwork*", "*X-Ephemwork*"]
    }
  }
}

resource "aws_vpc_security_group_egress_rule" "ephemwork" {
  security_group_id            = "@ALB_GROUP@"
  referenced_security_group_id = "@GROUP@"
  ip_protocol                  = "tcp"
  from_port                    = 80
  to_port                      = 80
  description                  = "to the ephemwork bastion"
}
