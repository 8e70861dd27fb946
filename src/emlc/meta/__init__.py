"""The mathematics: Jacobian-vector products and the meta-gradient through the student's steps."""
